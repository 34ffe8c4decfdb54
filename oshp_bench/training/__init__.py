"""Manifest and training images in, checkpoint out: oshp-train."""
