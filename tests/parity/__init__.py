"""How each method is checked against the numbers of its official code: one module a method, with one `check`."""
