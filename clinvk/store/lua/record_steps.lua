-- record_steps(run, nonce, max_steps, max_bytes, rows...) -> number of steps recorded
-- Record what the CLIs of some tasks of a run did. Nothing is recorded of a run that is gone.
--   nonce      one for each call, so that a call whose answer was lost can be repeated
--   max_steps  how many steps are kept of a task: of more, the oldest are dropped, and counted
--   max_bytes  how many bytes, in the same way
--   rows       for each step its task's index, how many steps before it were dropped by whoever
--              records it, and the encoded StepRecord, or '' where there is only the number
-- It does not record without memory, unlike what ends a task: steps are the first that a full
-- server goes without.
local total, recorded = record_of(run).total, 0
if total == 0 then return 0 end
local sequence, tasks, order = last_sequence(run), {}, {}

local function counts_for(index)
  local counts = tasks[index]
  if not counts then
    if not string.match(index, '^%d+$') or tonumber(index) >= math.min(total, TASKS) then
      error('run ' .. run .. ' has no task ' .. index)
    end
    counts = step_counts_of(run, integer(index))
    counts.is_repeated = counts.nonce == nonce
    counts.nonce = nonce
    tasks[index] = counts
    order[#order + 1] = index
  end
  return counts
end

for i = 1, #rows, 3 do
  local index, dropped, step = rows[i], rows[i + 1], rows[i + 2]
  local counts = counts_for(index)
  if not counts.is_repeated then
    counts.dropped = counts.dropped + dropped
    if step ~= '' then
      sequence = sequence + 1
      add_step(run, index, counts, sequence, step)
      recorded = recorded + 1
    end
  end
end
for _, index in ipairs(order) do
  local counts = tasks[index]
  if not counts.is_repeated then
    drop_oldest_steps(run, index, counts, tonumber(max_steps), tonumber(max_bytes))
    save_step_counts(run, integer(index), counts)
  end
end
set_field(step_counts_key(run), 'last', integer(sequence))
for _, key in ipairs({steps_key(run), step_order_key(run), step_counts_key(run)}) do
  keep(run, key)
end
touch_sometimes(run)
return recorded
