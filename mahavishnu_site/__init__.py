"""The composition root: the one package that knows every other part and puts them together."""
