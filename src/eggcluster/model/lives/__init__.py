"""Decisions about the lives of workers: started, stopped, replaced, recycled. Pure."""
