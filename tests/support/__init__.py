"""What tests share: fixtures, event sequences, example data, processes. No test lies here."""
