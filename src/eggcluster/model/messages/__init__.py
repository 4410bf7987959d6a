"""What travels in the cluster, and the addresses it travels between. Pure."""
