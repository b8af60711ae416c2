"""The words: records, events, settings and user configurations.

Only data lives here: frozen pydantic models, their versions, and how an id follows from its cause.
No input or output, no decision, and nothing imported from the other rooms.
"""
