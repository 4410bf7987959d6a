"""What is sent in a cluster, and between which addresses. Pure; runs in all processes."""
