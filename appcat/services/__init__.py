"""One verb, one function. Services take plain data, return plain data and print nothing."""
