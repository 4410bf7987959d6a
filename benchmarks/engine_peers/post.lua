-- Runs in wrk, in the repository's root: a POST of 10 KiB, and report.lua's line at the end.
dofile("benchmarks/http_peers/report.lua")
wrk.method = "POST"
wrk.body = string.rep("x", 10240)
wrk.headers["Content-Type"] = "application/octet-stream"
