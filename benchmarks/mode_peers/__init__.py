"""What the benchmark of the start modes runs. Its application is the same in each of them."""
