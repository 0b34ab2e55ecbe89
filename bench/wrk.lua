-- What wrk sends, and its result as one JSON line on stdout. Values come by environment; latency in microseconds.
wrk.method = "POST"
wrk.body = os.getenv("BENCH_BODY")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"calls": %d, "seconds": %.6f, "p50": %d, "p99": %d, "failed": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
