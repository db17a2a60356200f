-- expired_waits(limit)
--   -> {{lease, kind, worker, retry_at_ms, until_ms, waited_ms, rejections, queue, model}, ...}
-- Find tasks that limits would hold up for longer than they may be. Writes nothing but where to look
-- on: the caller records their ends through finish, which takes them out of their lists.
--   limit  how many tasks of a run to look at in one call
-- The lease is that of a dispatch that will not be, the one after the next: should the task be
-- dispatched meanwhile, its end by this lease is refused. retry_at_ms is 0 where it is not known; queue
-- and model are what the task waits for.
-- A task waits too long, or it does not, whatever time it is, since what is left of a wait becomes less
-- as it goes on. So a run is looked through once for each state of the gates, and again when one more of
-- its tasks waits, or a gate should have opened.
local now = now_ms()
local found = {}

-- Return the gate that keeps a task back longest, of its queue and its model.
local function gate_before(queue, model)
  local first
  for name in string.gmatch(string.sub(queue, 8), '[^|]+') do
    local gate = gate_of('clinvk.' .. name, '')
    if not (gate and gate.closed_until) then gate = false end
    if not gate then first = nil break end
    if not first or gate.closed_until < first.closed_until then first = gate end
  end
  local of_model = model ~= '' and gate_of(queue, model)
  if of_model and of_model.closed_until
      and not (first and first.closed_until > of_model.closed_until) then
    first = of_model
  end
  return first
end

local function look_at(run, index)
  local queue, model = route_of_task(run, index)
  local gate = queue and gate_before(queue, model)
  if not gate then return end
  local may_wait_seconds = cjson.decode(redis.call('HGET', specs_key(run), index)).max_wait_seconds
  if not may_wait_seconds then return end
  local tries = tries_of(run, index)
  local waited = held_up_ms(run, queue, tries)
  if waited + math.max(0, gate.closed_until - now) <= may_wait_seconds * 1000 then return end
  local dispatch = integer(2 + (redis.call('HGET', dispatches_key(run), index) or 0))
  found[#found + 1] = {lease_name(run, index, dispatch), gate.kind, gate.worker,
                       integer(gate.retry_at or 0), integer(gate.closed_until), integer(waited),
                       tries.rejections, queue, model}
end

local state, latest = state_of_gates()

-- Look at some of what a run has waiting, further on with each call. `looked` is how far, whether
-- anything was found on the way, and for which state of the gates: for another it begins anew.
local function look_at_run(run)
  local fields = redis.call('HMGET', run_key(run), 'looked', 'looked_at')
  if fields[2] == state then return end
  local position, has_found, of_state = string.match(fields[1] or '', '^(%d+) (%d) (.*)$')
  if of_state ~= state then position, has_found = 0, '0' end
  local first, before = tonumber(position), #found
  local indexes = redis.call('ZRANGE', held_key(run), first, first + limit - 1)
  local is_all = #indexes < tonumber(limit)
  for _, queue in ipairs(record_of(run).queues) do
    local pending = redis.call('LRANGE', pending_key(run, queue), first, first + limit - 1)
    is_all = is_all and #pending < tonumber(limit)
    for _, index in ipairs(pending) do indexes[#indexes + 1] = index end
  end
  for _, index in ipairs(indexes) do look_at(run, index) end
  if #found > before then has_found = '1' end
  if not is_all then
    local next_first = integer(first + limit - (#found - before))
    set_field(run_key(run), 'looked', next_first .. ' ' .. has_found .. ' ' .. state)
    return
  end
  remove_field(run_key(run), 'looked')
  if has_found == '0' then set_field(run_key(run), 'looked_at', state) end
end

-- Say whether no task of a run can have waited too long: none for longer than since it was opened.
local function is_too_young(run)
  local created_ms = redis.call('HGET', run_key(run), 'created_ms')
  return created_ms and latest - created_ms <= record_of(run).max_wait_ms
end

if state ~= '' then
  for _, run in ipairs(redis.call('ZRANGE', active_key(), 0, -1)) do
    if record_of(run).max_wait_ms and not is_too_young(run)
        and redis.call('HGET', run_key(run), 'state') == 'running' then
      attempt(function() look_at_run(run) end)
    end
  end
end
return found
