-- renew(owner, beacon, beacon_ms, lease_ms, lease...) -> {lease, ...} to stop
-- Keep the leases of everything that one worker process runs, and the records of their runs, in
-- one call. Returns those that it must stop: their run was canceled, or the task is no longer
-- theirs.
--   ARGV[1]   worker process
--   ARGV[2]   its standing connection, "<run id of the server>:<client id>" (see evidence.py)
--   ARGV[3]   how long to remember that
--   ARGV[4]   length of the lease
--   ARGV[5..] leases, "<run>:<index>:<dispatch>"
-- A task that the record shows as not claimed is claimed here: a server that crashed may have
-- lost the last moments before it, and nobody else can run this dispatch. What was given up stays
-- so: this call and that one may have crossed.
local owner = ARGV[1]
local deadline_ms = now_ms() + ARGV[4]
local stop, runs = {}, {}
even_without_memory()
redis.call('SET', beacon_key(owner), ARGV[2], 'PX', ARGV[3])
for i = 5, #ARGV do
  local lease = ARGV[i]
  local run, index, dispatch = parse_lease(lease)
  local current, state, queue, claim = parse_entry(redis.call('HGET', out_key(run), index))
  if current == dispatch and state == 'h' then
    claim, state = owner .. '/renewed', 'r'
    redis.call('HSET', out_key(run), index, dispatch .. ':r:' .. queue .. ':' .. claim)
  end
  if current == dispatch and is_owned_by(claim, owner)
      and redis.call('ZSCORE', leases_key(queue), lease) ~= '0' then
    redis.call('ZADD', leases_key(queue), deadline_ms, lease)
    touch_shared(leases_key(queue))
    runs[run] = true
    if redis.call('HGET', run_key(run), 'state') ~= 'running' then
      stop[#stop + 1] = lease
    end
  else
    stop[#stop + 1] = lease
  end
end
for run in pairs(runs) do touch(run) end
return stop
