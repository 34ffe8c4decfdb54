"""What several learned methods are made of."""
