"""EOP-Net, its settings, the authors' release, and our variant."""
