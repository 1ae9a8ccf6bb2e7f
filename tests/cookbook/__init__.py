"""The code of the cookbook, run as printed on real workers, with processes that are killed in the middle."""
