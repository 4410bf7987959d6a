"""The application that the chaos tests serve; its modules are copied into the project of each test."""
