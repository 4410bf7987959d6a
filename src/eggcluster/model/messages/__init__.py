"""What is sent in the cluster, and between which addresses. Pure."""
