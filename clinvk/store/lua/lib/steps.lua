-- Steps: what the CLIs of a run did, kept in one order for the whole run.
--
-- A step's sequence is its place among all steps of its run, from 1; its number is its place among
-- those of its task, from 1, so that a gap in the numbers is what was dropped. `steps` has the
-- steps by sequence; `step_order` finds those of one task, by a score that is its index and the
-- sequence in one. An entry of `step_counts` reads "<kept>:<bytes>:<dropped>:<nonce>"; the nonce is
-- that of the last call that recorded steps of the task.

local SEQUENCES = 2^33   -- more than a run can have
local TASKS = 2^20       -- so that a score stays exact

local function step_score(index, sequence)
  return integer(index * SEQUENCES + sequence)
end

local function last_sequence(run)
  return tonumber(redis.call('HGET', step_counts_key(run), 'last') or 0)
end

-- Return a task's counts of steps, for change; save_step_counts writes them.
local function step_counts_of(run, index)
  local entry = redis.call('HGET', step_counts_key(run), index) or ''
  local kept, bytes, dropped, nonce = string.match(entry, '^(%d+):(%d+):(%d+):(.*)$')
  return {kept = tonumber(kept or 0), bytes = tonumber(bytes or 0),
          dropped = tonumber(dropped or 0), nonce = nonce}
end

local function save_step_counts(run, index, counts)
  local entry = table.concat({integer(counts.kept), integer(counts.bytes),
                              integer(counts.dropped), counts.nonce}, ':')
  set_field(step_counts_key(run), index, entry)
end

local function add_step(run, index, counts, sequence, step)
  local name = integer(sequence)
  local number = integer(counts.dropped + counts.kept + 1)
  write({'HDEL', steps_key(run), name}, 'HSET', steps_key(run), name, number .. ':' .. step)
  write({'ZREM', step_order_key(run), name},
        'ZADD', step_order_key(run), step_score(index, sequence), name)
  counts.kept = counts.kept + 1
  counts.bytes = counts.bytes + #step
end

-- Drop the oldest steps of a task until what is left is within both limits.
local function drop_oldest_steps(run, index, counts, max_steps, max_bytes)
  while counts.kept > max_steps or counts.bytes > max_bytes do
    local first = redis.call('ZRANGEBYSCORE', step_order_key(run), step_score(index, 0),
                             step_score(index, SEQUENCES - 1), 'WITHSCORES', 'LIMIT', 0, 1)
    local name, score = first[1], first[2]
    if not name then  -- a server that lost writes; what is counted is not there
      counts.dropped, counts.kept, counts.bytes = counts.dropped + counts.kept, 0, 0
      return
    end
    local entry = redis.call('HGET', steps_key(run), name) or ':'
    write({'ZADD', step_order_key(run), score, name}, 'ZREM', step_order_key(run), name)
    write({'HSET', steps_key(run), name, entry}, 'HDEL', steps_key(run), name)
    counts.kept, counts.dropped = counts.kept - 1, counts.dropped + 1
    counts.bytes = counts.bytes - (#entry - string.find(entry, ':', 1, true))
  end
end
