"""The bytes of messages: encoding, decoding, and columns out of a chunk. No broker, no clock.

`codec` encodes and decodes records and events; `blocks` encodes a batch's numbers as one binary block;
`rows` decodes a chunk into columns, by `columns` where values are plainly right, by `bad_rows` where some
are not.
"""
