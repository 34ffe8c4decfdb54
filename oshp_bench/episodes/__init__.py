"""Episodes and prediction folders: the API of any method, without torch."""
