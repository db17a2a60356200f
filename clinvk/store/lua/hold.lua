-- hold(run, index, dispatch, signal, model, retry_at_ms, delay_ms, max_wait_ms, kind, worker, pinned,
--      history, used_model, spent, claim_timeout_ms, routes...)
--   -> {verdict, waited_ms, until_ms, rejections, retries, queue, admission}
-- A task met a limit of its provider, or failed in a way that is worth another try: put it back, and
-- let its queue's gate know. It loses none of its attempts. Or it waits for longer than it may, and
-- `dispatch` is the one that expired_waits named: let it wait elsewhere.
--   signal            'window' for a limit that opens by itself at a known time, 'burst' for one that
--                     asks for less at once; '' where it is tried again for another reason
--   model             the model whose limit it is; '' for that of the whole queue
--   retry_at_ms       when the limit opens, by the server's clock; '' where that is not known
--   delay_ms          how long to hold the task back, if the gate does not; '' never to try it again
--                     where it was
--   max_wait_ms       for how long limits may hold the task up in all; '' for ever
--   kind, worker      the kind of error, and who met it: they are shown with the gate
--   pinned            the only worker that can go on with the task, where it was; '' for any
--   history           what the next worker is to know of the task, as JSON
--   used_model, spent  of the execution, as in finish; the caller of `over` gives them to finish
--   claim_timeout_ms  how long a published task may go unclaimed
--   routes            pairs of a queue and a model: where it may run instead, in order, where that is
--                     a queue of the run
-- Verdicts:
--   held   it runs again in `queue`, not before until_ms
--   over   it cannot run within its time, so the caller records its end; until_ms says how long
--   stale  the dispatch no longer owns the task
-- The same again changes nothing: the answer may have been lost on the way.
local entry = redis.call('HGET', in_flight_key(run), index)
local current, _, queue, _, started_ms = parse_entry(entry)
local known = tonumber(redis.call('HGET', dispatches_key(run), index) or 0)
local is_waiting = not current and tonumber(dispatch) == known + 2
local tries = tries_of(run, index)
if redis.call('HGET', run_key(run), 'state') ~= 'running' then
  return {'stale', 0, 0, 0, 0, '', {{}, 0, {}}}
end
if tries.held == dispatch then
  return {'held', integer(tries.waited_ms), integer(tries.until_ms), tries.rejections,
          tries.retries, queue_of_task(run, index) or '', {{}, 0, {}}}
end
local was_queue, was_model = route_of_task(run, index)
local asked_queue, asked_model = was_queue, was_model
if pinned ~= '' and queue then  -- of several backends, the one whose session it is
  asked_queue, asked_model = queue, queue == was_queue and was_model or ''
end
if not asked_queue or (current ~= dispatch and not is_waiting) then
  return {'stale', 0, 0, 0, 0, '', {{}, 0, {}}}
end
even_without_memory()
local now, lease = now_ms(), lease_name(run, index, dispatch)
if is_waiting then
  tries.waited_ms = held_up_ms(run, asked_queue, tries)
elseif signal ~= '' then
  note_limit(queue, model, signal, started_ms or now, tonumber(retry_at_ms), kind, worker,
             redis.call('ZCARD', leases_key(queue)))
  if gate_of(queue, model).closed_until then take_back_unclaimed(queue, model) end
else
  note_end_of(run, index, queue, 'frozen', lease, started_ms)
end
local may_wait_ms = max_wait_ms == '' and math.huge or max_wait_ms - tries.waited_ms

-- Return when a route opens, by its gates and the delay.
local function opens_ms(to_queue, to_model, delay)
  local first = math.huge
  for name in string.gmatch(string.sub(to_queue, 8), '[^|]+') do
    local gate = gate_of('clinvk.' .. name, '')
    first = math.min(first, gate and gate.closed_until or 0)
  end
  local gate = to_model ~= '' and gate_of(to_queue, to_model)
  return math.max(now + delay, first, gate and gate.closed_until or 0)
end

local is_known = {}
for _, known in ipairs(record_of(run).queues) do is_known[known] = true end

local admission_of_routes = new_admission(claim_timeout_ms)

-- Whether a live worker serves a queue, and meets what the run requires.
local function is_served(to_queue)
  if redis.call('HEXISTS', capacity_key(), to_queue) == 0 then return false end
  if not record_of(run).requires then return true end
  local worker, reason = requirements().choose(run, to_queue, admission_of_routes)
  return worker ~= nil or reason == 'occupied'
end

-- Choose where to go on: where it was, if that opens in time, else the first other route that is open
-- now, else the first that opens in time.
local function choose_route()
  if delay_ms ~= '' then
    local at = opens_ms(asked_queue, asked_model, tonumber(delay_ms))
    -- Only limits count: a task that is tried again for another reason has to wait for that.
    if signal == '' or at - now <= may_wait_ms then
      return asked_queue, asked_model, at, tonumber(delay_ms)
    end
  end
  for i = 1, #routes, 2 do
    if is_known[routes[i]] and opens_ms(routes[i], routes[i + 1], 0) <= now
        and is_served(routes[i]) then
      return routes[i], routes[i + 1], now, 0
    end
  end
  for i = 1, #routes, 2 do
    local at = opens_ms(routes[i], routes[i + 1], 0)
    if is_known[routes[i]] and at - now <= may_wait_ms then return routes[i], routes[i + 1], at, 0 end
  end
end

local to_queue, to_model, at, delay = choose_route()
if not to_queue then
  local until_ms = opens_ms(asked_queue, asked_model, tonumber(delay_ms) or 0)
  return {'over', integer(tries.waited_ms), integer(until_ms), tries.rejections, tries.retries, '',
          {{}, 0, {}}}
end
local is_elsewhere = to_queue ~= asked_queue or to_model ~= asked_model
if is_waiting and not (is_elsewhere and take_waiting(run, asked_queue, index)) then
  return {'stale', 0, 0, 0, 0, '', {{}, 0, {}}}
end
tries.since_ms = now + (signal == '' and delay or 0)
if signal == '' then tries.retries = tries.retries + 1 else tries.rejections = tries.rejections + 1 end
if is_elsewhere then tries.retries = 0 end
if to_queue ~= was_queue or to_model ~= was_model then
  tries.queue, tries.model = to_queue, to_model
end
tries.worker = not is_elsewhere and pinned ~= '' and pinned or nil
tries.missing_ms = nil
if not is_waiting then tries.held, tries.until_ms = dispatch, at end
save_tries(run, index, tries)
if history ~= '' then
  set_field(history_key(run), index, history)
  keep(run, history_key(run))
end
if not is_waiting then
  charge(run, index, queue, used_model, spent)
  write({'HSET', in_flight_key(run), index, entry}, 'HDEL', in_flight_key(run), index)
  settle(run, index, queue, used_model, spent, signal ~= '' and pinned == '', false)
  remove_member(leases_key(queue), lease)
  set_field(dispatches_key(run), index, dispatch)
  keep(run, dispatches_key(run))
end
if delay > 0 then
  hold_task(run, to_queue, index, now + delay)
else
  make_pending(run, to_queue, index, 'LPUSH', 'LPOP')
end
add_event(run, 'kind', 'held', 'index', index, 'dispatch', dispatch, 'until_ms', integer(at))
keep(run, events_key(run))
enter_fair_queues(run)
local admission = admit(claim_timeout_ms)
touch_sometimes(run)
return {'held', integer(tries.waited_ms), integer(at), tries.rejections, tries.retries, to_queue,
        admission}
