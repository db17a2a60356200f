-- renew(lease_ms, lease...) -> {lease, ...} to stop
-- Keep the leases of everything that one worker runs, in one call. Returns those that the
-- worker must stop: their run was canceled, or the task is no longer theirs.
--   ARGV[1]   length of the lease
--   ARGV[2..] leases, "<run>:<index>:<attempt>"
local deadline_ms = now_ms() + ARGV[1]
local stop = {}
for i = 2, #ARGV do
  local lease = ARGV[i]
  local run, index, attempt = string.match(lease, '^(.+):(%d+):(%d+)$')
  local current, state, queue = parse_entry(redis.call('HGET', out_key(run), index))
  if current == attempt and state == 'r' then
    redis.call('ZADD', leases_key(queue), deadline_ms, lease)
    touch_shared(leases_key(queue))
    if redis.call('HGET', run_key(run), 'state') ~= 'running' then
      stop[#stop + 1] = lease
    end
  else
    stop[#stop + 1] = lease
  end
end
return stop
