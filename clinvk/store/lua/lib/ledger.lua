-- The ledger: what executions used, in one hash for each run. A field is a JSON list: the day (since
-- the epoch, UTC), who submitted the run, the backend, the model and the tags of the task. Its value
-- are sums in the order of `Spending` (clinvk/core/spending.py), with commas between them: numbers
-- that are added in the script which ends the execution, so each is counted once.

local LEDGER_MS = 7948800000  -- 92 days
local MOST_ROWS = 1000        -- of a run; what would make more goes into one of its day
local LOST = '1,1,0,0,0,0,0,0'

-- Read a task's spec, which may have been forged: the ledger takes what it can use.
local function readable_spec(run, index)
  local is_json, spec = pcall(cjson.decode, redis.call('HGET', specs_key(run), index) or '')
  return is_json and type(spec) == 'table' and spec or {}
end

local function tags_of(run, index)
  if not record_of(run).has_tags then return {} end
  local tags = readable_spec(run, index).tags
  return type(tags) == 'table' and tags or {}
end

local function row_of(run, index, queue, model)
  local labels = {math.floor(now_ms() / DAY_MS), record_of(run).key,
                  string.match(queue, '^clinvk%.([^|]*)') or '', model}
  for _, tag in ipairs(tags_of(run, index)) do labels[#labels + 1] = tag end
  return cjson.encode(labels)
end

local function added(before, spent)
  local sums, next_of = {}, string.gmatch(before or '', '[^,]+')
  for number in string.gmatch(spent, '[^,]+') do
    local sum = (tonumber(next_of() or 0) or 0) + number
    sums[#sums + 1] = integer(math.max(0, math.min(sum, 2^53 - 1)))
  end
  return table.concat(sums, ',')
end

-- Make room for one more row; returns it, or the one that takes all that has no room.
local function new_row(run, row)
  local key = ledger_key(run)
  if redis.call('HLEN', key) >= MOST_ROWS then
    row = cjson.encode({math.floor(now_ms() / DAY_MS), record_of(run).key, '', ''})
  end
  local before = redis.call('ZSCORE', ledgers_key(), run)
  write(before and {'ZADD', ledgers_key(), before, run} or {'ZREM', ledgers_key(), run},
        'ZADD', ledgers_key(), integer(now_ms()), run)
  for _, oldest in ipairs(redis.call('ZRANGE', ledgers_key(), 0, 1)) do
    if oldest ~= run and redis.call('EXISTS', ledger_key(oldest)) == 0 then
      write(nil, 'ZREM', ledgers_key(), oldest)
    end
  end
  return row
end

-- The model that a task asks for, where nobody says which one ran.
local function asked_model(run, index)
  local tries = tries_of(run, index)
  if tries.queue then return tries.model or '' end
  local model = readable_spec(run, index).model
  return type(model) == 'string' and model or ''
end

-- Add what an execution used, as the CLI or a price list says: '' for one that used nothing.
local function charge(run, index, queue, model, spent)
  if spent == '' then return end
  local key, row = ledger_key(run), row_of(run, index, queue, model)
  local before = redis.call('HGET', key, row)
  local is_new = not before
  if is_new then
    row = new_row(run, row)
    before = redis.call('HGET', key, row)
  end
  write(before and {'HSET', key, row, before} or {'HDEL', key, row},
        'HSET', key, row, added(before, spent))
  if is_new then
    redis.call('PEXPIRE', key, math.max(LEDGER_MS, tonumber(record_of(run).lifetime_ms or 0)))
    redis.call('PEXPIRE', ledgers_key(), SHARED_MS)
  end
end
