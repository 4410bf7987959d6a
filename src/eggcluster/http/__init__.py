"""The HTTP/1.1 server engine: from bytes to requests, and from responses to bytes. Runs in the app workers."""
