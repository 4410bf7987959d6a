"""The listening sockets: bound, held, guarded, and steered. Runs in the master."""
