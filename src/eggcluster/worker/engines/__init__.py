"""HTTP engines: who parses requests and calls the application. Run in the app workers."""
