"""Episodes, photos ahead of their turn, prediction folders: the API of any method, without torch."""
