-- reap(limit, complete_after_ms, claim_timeout_ms, audit_interval_ms, audit_limit)
--   -> {{{lease, state, owner, connection, milliseconds over}, ...}, admission, {complete run...},
--       {{run, what was repaired}, ...}, {{run, error}, ...}, 1 if expired_waits may find something}
-- Look for leases that ran out, dispatch what can be, find runs that nobody has closed, and audit
-- those that are due.
--   limit              how many leases of a queue to look at in one call
--   complete_after_ms  how long a complete run may wait for its chord's body
--   claim_timeout_ms   how long a published task may go unclaimed
--   audit_interval_ms  how long after its last audit a run is audited again
--   audit_limit        how many runs to audit in one call
-- Whether what ran out was lost is the caller's to judge (failure_detector.py), who then calls
-- lose. The milliseconds are -1 for a lease that was released.
local now = now_ms()
local over, failures = {}, {}

local function look_at(leases, lease, score)
  local run, index, dispatch = parse_lease(lease)
  local current, state, _, claim = parse_entry(redis.call('HGET', in_flight_key(run), index))
  if current ~= dispatch then
    write(nil, 'ZREM', leases, lease)
    return
  end
  local owner = string.match(claim, '^(.*)/') or ''
  local connection = redis.call('GET', liveness_key(owner)) or ''
  over[#over + 1] = {lease, state, owner, connection,
                     score == 0 and -1 or math.floor(now - score)}
end

local repaired = audit_runs(tonumber(audit_interval_ms), audit_limit, failures)
for _, queue in ipairs(redis.call('SMEMBERS', queues_key())) do
  local leases = leases_key(queue)
  local found = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'WITHSCORES',
                           'LIMIT', 0, limit)
  for i = 1, #found, 2 do
    local failure = attempt(function() look_at(leases, found[i], tonumber(found[i + 1])) end)
    if failure then failures[#failures + 1] = {parse_lease(found[i]) or found[i], failure} end
  end
end
local failure = attempt(look_at_budgets)
if failure then failures[#failures + 1] = {'*', failure} end
local admission = admit(claim_timeout_ms)
local complete = redis.call('ZRANGEBYSCORE', complete_key(), '-inf', now - complete_after_ms)
return {over, admission, complete, repaired, failures, state_of_gates() ~= '' and 1 or 0}
