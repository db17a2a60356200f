-- What is stored of runs and tasks, and how it is read.
--
-- An entry of `in_flight` reads "<dispatch>:<state>:<queue>:<started>:<claim>"; the state is
--   d  dispatched: published; no worker has claimed it. The claim is the worker into whose own queue
--      it was put, if it was
--   r  running: a worker claimed it, at the time `started` (ms), and holds its lease. The claim is
--      "<owner>/<nonce>": which worker process, and which call of it
-- Both have a lease in their queue's sorted set, so that its size is what the queue has in flight.
-- A lease with the score 0 was released by its owner: the next reaper takes it.

local time

-- Return the server's time, the same for all of a script.
local function now_ms()
  time = time or redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Return a number below `below` that differs from call to call; a script has no other randomness.
local jitters = 0
local function jitter(below)
  now_ms()
  jitters = jitters + 1
  return (tonumber(time[2]) * 7919 + jitters * 104729) % below
end

local function lease_name(run, index, dispatch)
  return run .. ':' .. index .. ':' .. dispatch
end

local function parse_lease(name)
  return string.match(name, '^(.+):(%d+):(%d+)$')
end

-- Read an entry of `in_flight`: dispatch, state, queue, claim, when it was claimed (ms).
local function parse_entry(entry)
  local dispatch, state, queue, started, claim =
    string.match(entry or '', '^(%d+):([dr]):([^:]+):(%d*):(.*)$')
  return dispatch, state, queue, claim, tonumber(started or '')
end

local function claimed_entry(dispatch, queue, claim)
  return table.concat({dispatch, 'r', queue, integer(now_ms()), claim}, ':')
end

local function is_owned_by(claim, owner)
  return string.sub(claim, 1, #owner + 1) == owner .. '/'
end

-- Redis refuses a script that begins with a write that could need memory when it is out of it,
-- and lets one go on that has written already. What records the end of something must always
-- go through, or the memory could never be freed.
local function even_without_memory()
  redis.call('PEXPIRE', queues_key(), SHARED_MS)
end

-- Add what a run's record says of budgets, which most runs do not have.
local function read_budget(run, record)
  local fields = redis.call('HMGET', run_key(run), 'max_cost', 'max_tokens', 'estimate_cost',
                            'estimate_tokens', 'on_budget', 'allow_unknown', 'unpriced',
                            'waits_for_budget')
  record.max_cost, record.max_tokens = tonumber(fields[1] or ''), tonumber(fields[2] or '')
  record.estimate_cost = tonumber(fields[3] or '')
  record.estimate_tokens = tonumber(fields[4] or '')
  record.stops_at_budget, record.allows_unknown = fields[5] == 'stop', fields[6] == '1'
  record.unpriced, record.waits_for_budget = fields[7] or nil, fields[8] == '1'
end

-- What of a run's record is written once, read once in a script. Empty where there is no run.
local records = {}

local function record_of(run)
  local record = records[run]
  if not record then
    local fields = redis.call('HMGET', run_key(run), 'queues', 'max_parallel', 'priority',
                              'lifetime_ms', 'fail_fast', 'max_attempts', 'steps',
                              'touched_ms', 'total', 'has_tries', 'max_wait_ms', 'has_earlier',
                              'submitter', 'user', 'has_tags', 'budgeted', 'requires')
    record = {queues = cjson.decode(fields[1] or '[]'), max_parallel = tonumber(fields[2] or 0),
              priority = tonumber(fields[3] or 0), lifetime_ms = fields[4] or nil,
              fail_fast = fields[5] == '1', max_attempts = tonumber(fields[6] or 0),
              steps = fields[7] and cjson.decode(fields[7]), touched_ms = tonumber(fields[8] or 0),
              total = tonumber(fields[9] or 0), has_tries = fields[10] == '1',
              max_wait_ms = tonumber(fields[11] or ''), has_earlier = fields[12] == '1',
              key = fields[13] or fields[14] or '', has_tags = fields[15] == '1',
              is_budgeted = fields[16] == '1',
              requires = fields[17] and cjson.decode(fields[17])}
    records[run] = record
    if record.is_budgeted then read_budget(run, record) end
  end
  return record
end

-- Append an event to a run's stream: pairs of field and value.
local function add_event(run, ...)
  local key = events_key(run)
  note_undo('XDEL', key, redis.call('XADD', key, '*', ...))
end
