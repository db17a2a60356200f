-- steps_since(run, after, index, max_steps, max_bytes) -> {position, has_more, {sequence, entry...}}
-- Read the steps of a run after a sequence, in order; costs what there is of them. Writes nothing.
--   index      of this task only; '' of all
--   max_steps  at most so many
--   max_bytes  stop when there are more bytes than that
-- position is where the next call goes on; has_more is 1 where there may be more right now. An entry
-- reads "<number>:<StepRecord>".
local STEPS_AT_ONCE, PROBES = 200, 100  -- dropped steps leave gaps in the sequence: look on, but not for ever
local last, position = last_sequence(run), tonumber(after)
local found, bytes = {}, 0

local function is_full()
  return #found >= 2 * max_steps or bytes > tonumber(max_bytes)
end

-- Add the steps of these sequences, as far as they fit.
local function add(names)
  if #names == 0 then return end
  local entries = redis.call('HMGET', steps_key(run), unpack(names))
  for i, entry in ipairs(entries) do
    if is_full() then return end
    position = tonumber(names[i])
    if entry then
      found[#found + 1], found[#found + 2] = position, entry
      bytes = bytes + #entry
    end
  end
end

local function add_of_all()
  for _ = 1, PROBES do
    if position >= last or is_full() then return end
    local names = {}
    for sequence = position + 1, math.min(position + STEPS_AT_ONCE, last) do
      names[#names + 1] = integer(sequence)
    end
    add(names)
  end
end

local function add_of_task()
  while not is_full() do
    local names = redis.call('ZRANGEBYSCORE', step_order_key(run),
                             step_score(index, position + 1), step_score(index, SEQUENCES - 1),
                             'LIMIT', 0, STEPS_AT_ONCE)
    add(names)
    if #names < STEPS_AT_ONCE and not is_full() then position = last end
    if #names < STEPS_AT_ONCE then return end
  end
end

if position >= last then return {last, 0, {}} end
if index == '' then add_of_all() else add_of_task() end
return {position, position < last and 1 or 0, found}
