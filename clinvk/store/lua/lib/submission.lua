-- From what a submitter wrote to a run. A submitter may be anybody who reaches the server, so its
-- record is read field by field, and nothing of it names a key that is not a queue's.

local MAX_QUEUES = 1000

-- Check that each is the queue of a backend: their names become names of keys, and all workers look
-- into each.
local function check_queues(queues)
  for _, queue in ipairs(queues) do
    if not string.match(queue, '^clinvk%.[%w][%w_.|-]*$') then error('no queue: ' .. queue) end
  end
end

-- Return the queues of a JSON list, at most `most`.
local function checked_queues(text, most)
  local queues = cjson.decode(text)
  if #queues > most then error('too many queues') end
  check_queues(queues)
  return queues
end

-- A submitter uses the queues that there are, or several of them.
local function check_known(queues)
  for _, queue in ipairs(queues) do
    for name in string.gmatch(string.sub(queue, 8), '[^|]+') do
      if redis.call('SISMEMBER', queues_key(), 'clinvk.' .. name) == 0 then
        error('no worker has ever served clinvk.' .. name)
      end
    end
  end
end

-- Leave out the queues of fallbacks that no worker has ever served: no task is moved there.
local function without_unknown(queues)
  local known = {}
  for _, queue in ipairs(queues) do
    if pcall(check_known, {queue}) then known[#known + 1] = queue end
  end
  if #known == 0 then check_known(queues) end
  return known
end

-- Check that the queues are known in which tasks of a submission begin.
local function check_begins(submission, queues, lengths)
  local steps = redis.call('HGET', submission_key(submission), 'steps')
  check_known(steps and checked_queues(steps, math.huge) or {})
  for _, queue in ipairs(queues) do
    if lengths[queue] > 0 then check_known({queue}) end
  end
end

-- Give a key of a submission the name that it has in the run.
local function move(from, to)
  if redis.call('EXISTS', from) == 1 then write({'RENAME', to, from}, 'RENAME', from, to) end
end

-- Make a submission's keys those of a run, and write the run's record; returns when it was created.
local function make_record(run, submission, submitter, queues, total, lifetime_ms)
  local given = redis.call('HMGET', submission_key(submission), 'queues', 'max_parallel',
                           'priority', 'max_attempts', 'created_ms', 'fail_fast', 'kind', 'steps',
                           'user', 'max_wait_ms', 'has_tags', 'max_cost', 'max_tokens',
                           'on_budget', 'allow_unknown', 'estimate_cost', 'estimate_tokens',
                           'requires')
  local created_ms = integer(given[5])
  if given[8] then checked_queues(given[8], tonumber(total)) end
  write({'DEL', run_key(run)}, 'HSET', run_key(run), 'state', 'running',
        'queues', cjson.encode(queues), 'max_parallel', integer(given[2]), 'priority', integer(given[3]),
        'max_attempts', integer(given[4]), 'created_ms', created_ms,
        'fail_fast', given[6] == '1' and '1' or '0', 'kind', given[7] or 'parallel',
        'total', total, 'remaining', total, 'lifetime_ms', lifetime_ms,
        'user', string.sub(given[9] or '', 1, 100))
  if submitter ~= '' then set_field(run_key(run), 'submitter', submitter) end
  if given[8] then set_field(run_key(run), 'steps', given[8]) end
  if given[10] then set_field(run_key(run), 'max_wait_ms', integer(given[10])) end
  if given[11] == '1' then set_field(run_key(run), 'has_tags', '1') end
  for place, name in ipairs({'max_cost', 'max_tokens'}) do
    local limit = given[11 + place]
    if limit then set_field(run_key(run), name, integer(limit)) end
  end
  if given[14] == 'stop' then set_field(run_key(run), 'on_budget', 'stop') end
  if given[15] == '1' then set_field(run_key(run), 'allow_unknown', '1') end
  for place, name in ipairs({'estimate_cost', 'estimate_tokens'}) do
    local guess = given[15 + place]
    if guess and submitter == '' then set_field(run_key(run), name, integer(guess)) end
  end
  if given[18] then set_field(run_key(run), 'requires', requirements().checked(given[18])) end
  discard(submission_key(submission))
  move(submission_specs_key(submission), specs_key(run))
  move(submission_max_attempts_key(submission), max_attempts_key(run))
  for _, queue in ipairs(queues) do
    move(submission_pending_key(submission, queue), pending_key(run, queue))
  end
  return created_ms
end

local function discard_submission(submission, queues)
  discard(submission_key(submission))
  discard(submission_specs_key(submission))
  discard(submission_max_attempts_key(submission))
  for _, queue in ipairs(queues) do discard(submission_pending_key(submission, queue)) end
end
