-- budgets(elsewhere, limits...) -> 1 if they are others than before
-- Set the budgets of a day, in place of those that there were. What was used on this day counts, also
-- before there was a budget.
--   elsewhere  JSON, "<scope> <unit>" -> what was used today of which this server knows nothing
--   limits     pairs of "<scope> <unit>" and a limit, see lib/budgets.lua; 'estimate cost' and
--              'estimate tokens' are what an execution is taken to use of which nothing is known
local before, given, is_same = budgets().limits_of_day(), {}, true
for i = 1, #limits, 2 do
  given[limits[i]] = tonumber(integer(limits[i + 1]))
  is_same = is_same and before[limits[i]] == given[limits[i]]
end
for name in pairs(before) do is_same = is_same and given[name] ~= nil end
if is_same and elsewhere == '' then return 0 end
discard(budgets_key())
budgets().set_limits(given)
if not next(given) then return 1 end
for name, limit in pairs(given) do
  write({'DEL', budgets_key()}, 'HSET', budgets_key(), name, integer(limit))
end
touch_shared(budgets_key())

-- Count anew what was used today: what ran without a budget was not counted.
local day, used = budgets().today(), elsewhere ~= '' and cjson.decode(elsewhere) or {}
local function add(scope, cost, tokens)
  used[scope .. ' cost'] = (used[scope .. ' cost'] or 0) + cost
  used[scope .. ' tokens'] = (used[scope .. ' tokens'] or 0) + tokens
end
for _, run in ipairs(redis.call('ZRANGEBYSCORE', ledgers_key(), integer(day * DAY_MS), '+inf')) do
  local fields = redis.pcall('HGETALL', ledger_key(run))
  for i = 1, #fields, 2 do
    local is_row, labels = pcall(cjson.decode, fields[i])
    local cost, tokens = amounts_of_sums(fields[i + 1])
    if is_row and type(labels) == 'table' and integer(labels[1] or 0) == day and cost then
      add('all', cost, tokens)
      add('clinvk.' .. tostring(labels[3]), cost, tokens)
      add('key ' .. tostring(labels[2]), cost, tokens)
    end
  end
end
discard(used_key(day))
for name, amount in pairs(used) do
  write({'DEL', used_key(day)}, 'HSET', used_key(day), name, integer(amount))
end
if next(used) then redis.call('PEXPIRE', used_key(day), budgets().USED_MS) end
for _, run in ipairs(redis.call('ZRANGE', active_key(), 0, -1)) do
  attempt(function() budgets().note(run) end)
end
return 1
