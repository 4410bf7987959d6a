"""The options in groups, as `eggcluster start --help` shows them: the most used first. Runs in the user's shell."""

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What runs", ("app", "factory", "agent", "no_agent", "framework", "base_dir", "require", "env", "interface")),
    ("Where it listens", ("host", "port", "uds", "uds_mode", "fd", "ports", "backlog")),
    ("How many workers, and of what kind", ("workers", "threads", "start_mode")),
    ("Name and background", ("name", "daemon", "pid_file")),
    ("TLS", ("https_key", "https_cert", "https_ca", "https_key_password", "debug_port")),
    ("Behind a proxy", ("forwarded_allow_ips", "proxy_protocol", "root_path")),
    ("One client, one worker", ("sticky", "sticky_via", "sticky_hold")),
    (
        "Logs",
        (
            "access_log",
            "access_log_format",
            "log_level",
            "log_format",
            "log_config",
            "master_log_level",
            "agent_log_level",
            "app_log_level",
        ),
    ),
    (
        "Time to start and to close",
        (
            "app_start_timeout",
            "agent_start_timeout",
            "app_close_timeout",
            "agent_close_timeout",
            "close_timeout",
            "max_draining",
        ),
    ),
    (
        "When a worker is replaced",
        ("worker_timeout", "agent_timeout", "max_requests", "max_lifetime", "max_rss", "strict"),
    ),
    (
        "Limits of HTTP",
        (
            "header_timeout",
            "body_timeout",
            "write_timeout",
            "request_timeout",
            "keep_alive_timeout",
            "max_header_bytes",
            "max_headers",
            "max_body_bytes",
            "limit_concurrency",
            "ws_max_size",
            "ws_ping_interval",
            "ws_ping_timeout",
            "headers",
            "server_header",
        ),
    ),
    ("Messages between processes", ("max_message_bytes", "max_queue_bytes")),
)
