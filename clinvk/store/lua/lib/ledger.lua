-- The ledger: what executions used, in one hash for each run. A field is a JSON list: the day (since
-- the epoch, UTC), who submitted the run, the backend, the model and the tags of the task. Its value
-- are sums in the order of `Spending` (clinvk/core/spending.py), with commas between them: numbers
-- that are added in the script which ends the execution, so each is counted once.
--
-- Beside the rows are histograms of single executions, under "~<backend>:<model>" and, over all
-- models, "~<backend>:". " c<n>:<count>" counts those that cost less than 2^(n/FINE) millionths of a
-- dollar and no less than the n before; " t<n>:<count>" counts them by tokens.

local LEDGER_MS = 7948800000  -- 92 days
local MOST_ROWS = 1000        -- of a run; what would make more goes into one of its day
local LOST = '1,1,0,0,0,0,0,0'
local FINE = 8                -- how many numbers a histogram has for each doubling

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

local SUMS = '^(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+)$'

-- Add what an execution used to sums; to none where there are none that can be read.
local function added(before, spent)
  local sums, numbers = {string.match(before or '', SUMS)}, {string.match(spent, SUMS)}
  if #sums == 0 then return spent end
  for place, number in ipairs(numbers) do
    if number ~= '0' then sums[place] = integer(math.min(sums[place] + number, 2^53 - 1)) end
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
local function model_of_task(run, index)
  local tries = tries_of(run, index)
  if tries.queue then return tries.model or '' end
  local model = readable_spec(run, index).model
  return type(model) == 'string' and model or ''
end

-- Read what one execution used: its cost, nil where that is not known, and its tokens.
local function amounts_of(spent)
  local unknown, cli, estimated, total =
    string.match(spent, '^%d+,(%d+),(%d+),(%d+),%d+,%d+,%d+,(%d+)$')
  return unknown == '0' and cli + estimated or nil, tonumber(total or 0)
end

local function number_in_histogram(letter, amount)
  if amount == 0 then return letter .. '0' end
  return letter .. math.floor(math.log(amount) / math.log(2) * FINE + 1e-9) + 1
end

-- Count one more in a histogram.
local function tallied(histogram, name)
  local text, found = string.gsub(histogram, ' ' .. name .. ':(%d+)', function(count)
    return ' ' .. name .. ':' .. integer(count + 1)
  end)
  return found > 0 and text or text .. ' ' .. name .. ':1'
end

local function histogram_field(backend, model)
  return '~' .. backend .. ':' .. model
end

-- Return the histograms that an execution counts in, and under which numbers.
local function histograms_of(backend, model, spent)
  local cost, tokens = amounts_of(spent)
  local names = {}
  if cost then names[1] = number_in_histogram('c', cost) end
  if tokens > 0 then names[#names + 1] = number_in_histogram('t', tokens) end
  if #names == 0 then return {}, names end
  if model == '' then return {histogram_field(backend, '')}, names end
  return {histogram_field(backend, model), histogram_field(backend, '')}, names
end

-- Add what an execution used, as the CLI or a price list says: '' for one that used nothing.
local function charge(run, index, queue, model, spent)
  if spent == '' then return end
  local key, row = ledger_key(run), row_of(run, index, queue, model)
  local fields, names = histograms_of(string.match(queue, '^clinvk%.([^|]*)') or '', model, spent)
  local before = redis.call('HMGET', key, row, unpack(fields))
  local is_new = not before[1]
  if is_new then
    local room = new_row(run, row)
    if room ~= row then
      row, fields = room, {}
      before = redis.call('HMGET', key, row)
    end
  end
  local values = {row, added(before[1], spent)}
  for place, field in ipairs(fields) do
    local histogram = before[place + 1] or ''
    for _, name in ipairs(names) do histogram = tallied(histogram, name) end
    values[#values + 1] = field
    values[#values + 1] = histogram
  end
  write(nil, 'HSET', key, unpack(values))
  for place = 1, #fields + 1 do
    local field, old = values[2 * place - 1], before[place]
    if old then note_undo('HSET', key, field, old) else note_undo('HDEL', key, field) end
  end
  if is_new then
    redis.call('PEXPIRE', key, math.max(LEDGER_MS, tonumber(record_of(run).lifetime_ms or 0)))
    redis.call('PEXPIRE', ledgers_key(), SHARED_MS)
  end
end

-- Read a row: its cost as far as that is known, and its tokens; nil for what is no row.
local function amounts_of_sums(sums)
  local cli, estimated, total = string.match(sums, '^%d+,%d+,(%d+),(%d+),%d+,%d+,%d+,(%d+)$')
  if not total then return nil end
  return cli + estimated, tonumber(total)
end

-- Return what a run has used so far: its cost as far as it is known, and its tokens.
local function sums_of_ledger(run)
  local cost, tokens = 0, 0
  for _, sums in ipairs(redis.call('HVALS', ledger_key(run))) do
    local its_cost, its_tokens = amounts_of_sums(sums)
    if its_cost then cost, tokens = cost + its_cost, tokens + its_tokens end
  end
  return cost, tokens
end
