-- Sends the requests of a file one after the other, and prints what came of them as JSON.
local file, record, first

function init(arguments)
  file = assert(io.open(arguments[1], "rb"))
  record = tonumber(arguments[2])
end

function request()
  local one = file:read(record)
  if not one then
    file:seek("set", 0) -- more than were made ready: the ratio would be one of duplicates, and failed says so
    one = file:read(record)
  end
  return one
end

function done(summary, latency, requests)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.timeout
  io.write(string.format(
    '{"rate": %f, "p50": %f, "p99": %f, "p999": %f, "failed": %d}\n',
    summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3, failed))
end
