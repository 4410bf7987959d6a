"""The admin port: probes, metrics and the status over HTTP, answered by the master. Runs in the master."""
