-- reap(limit, complete_after_ms, claim_timeout_ms)
--   -> {{{lease, state, owner, beacon, milliseconds over}, ...}, admission, {complete run...}}
-- Look for leases that ran out, let out what can be, and find runs that nobody has closed.
--   ARGV[1]  how many leases of a queue to look at in one call
--   ARGV[2]  how long a complete run may wait for its chord's body
--   ARGV[3]  how long a published task may go unclaimed
-- Whether what ran out was lost is the caller's to judge (evidence.py), who then calls lose.
-- The milliseconds are -1 for a lease that was given up.
local now = now_ms()
local over = {}
for _, queue in ipairs(redis.call('SMEMBERS', queues_key())) do
  local leases = leases_key(queue)
  local found = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'WITHSCORES',
                           'LIMIT', 0, ARGV[1])
  for i = 1, #found, 2 do
    local lease, score = found[i], tonumber(found[i + 1])
    local run, index, dispatch = parse_lease(lease)
    local current, state, _, claim = parse_entry(redis.call('HGET', out_key(run), index))
    if current ~= dispatch then
      redis.call('ZREM', leases, lease)
    else
      local owner = string.match(claim, '^(.*)/') or ''
      local beacon = redis.call('GET', beacon_key(owner)) or ''
      over[#over + 1] = {lease, state, owner, beacon, score == 0 and -1 or now - score}
    end
  end
end
local admission = admit(ARGV[3])
return {over, admission, redis.call('ZRANGEBYSCORE', complete_key(), '-inf', now - ARGV[2])}
