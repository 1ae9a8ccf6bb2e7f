"""Alternatives that a user could choose, each written as its documentation recommends."""
