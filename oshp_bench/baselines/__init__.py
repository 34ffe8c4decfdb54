"""Methods and the interface they are written on: episodes in, predictions out."""
