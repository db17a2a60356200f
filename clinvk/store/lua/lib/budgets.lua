-- Budgets: what may be spent, in millionths of a dollar ('cost') and in tokens ('tokens'). A run has
-- one of its own; the owner of a fleet has them for a day (UTC), for scopes: 'all', a queue
-- ('clinvk.<backend>'), and who submits ('key <name>', or 'key *' for each of them).
--
-- A start reserves what such executions have used at most in nine of ten cases, and what would go
-- over is not started. Its end, whatever it is, gives that back, and what was used counts instead.
--   run       max_cost, max_tokens; spent_<unit>, which is what its ledger says; assumed_<unit>, for
--             executions of which nobody knows what they used: what they had reserved
--   reserved  index -> "<cost>:<tokens>:<queue>", where the queue is '' if no day counts it;
--             cost, tokens -> the sums
--   budgets, used, all_reserved   "<scope> <unit>" -> the limit, what was used on a day, what is
--             reserved now. What runs over midnight counts for the day of its end
-- A run that no budget concerns has no `budgeted` in its record, and pays for none of this.
--
-- All of it is made when it is first needed, since a server makes a script's functions anew at each
-- call.

local made_budgets
local function budgets()
  if made_budgets then return made_budgets end
  local UNITS = {'cost', 'tokens'}
  local GUESS = {cost = 1000000, tokens = 500000}
  local USED_MS = 259200000       -- three days
  local LEDGERS_LOOKED_AT = 100   -- the newest, for an estimate
  local ENOUGH_EXECUTIONS = 200
  local BUDGET_LOOK_MS = 5000     -- how often to look whether a budget of the day has room again

  -- Return the limits of a day.
  local day_limits
  local function limits_of_day()
    if not day_limits then
      day_limits = {}
      local fields = redis.call('HGETALL', budgets_key())
      for i = 1, #fields, 2 do day_limits[fields[i]] = tonumber(fields[i + 1]) end
    end
    return day_limits
  end

  local function set_limits(limits)
    day_limits = limits
  end

  local function today()
    return integer(math.floor(now_ms() / DAY_MS))
  end

  local function ms_to_tomorrow()
    return DAY_MS - now_ms() % DAY_MS
  end

  local function scopes_of(run, queue)
    return {'all', queue, 'key ' .. record_of(run).key}
  end

  local function day_limit(scope, unit)
    local limits = limits_of_day()
    local limit = limits[scope .. ' ' .. unit]
    if not limit and string.sub(scope, 1, 4) == 'key ' then limit = limits['key * ' .. unit] end
    return limit
  end

  -- Let a run know that a budget may concern it: its own, or one of the day.
  local function note(run)
    local record = record_of(run)
    if record.is_budgeted then return end
    read_budget(run, record)
    if record.max_cost or record.max_tokens or next(limits_of_day()) then
      set_field(run_key(run), 'budgeted', '1')
      record.is_budgeted = true
    end
  end

  -- Estimates.

  -- Add the counts of a histogram, by letter and number.
  local function add_histogram(sums, text)
    for letter, number, count in string.gmatch(text, ' (%l)(%d+):(%d+)') do
      local sum = sums[letter]
      if sum then
        number, count = tonumber(number), tonumber(count)
        sum.counts[number] = (sum.counts[number] or 0) + count
        sum.total = sum.total + count
      end
    end
  end

  -- Return the amount that nine of ten did not go over; nil where there is none.
  local function ninth_tenth(sum)
    local numbers, below = {}, 0
    for number in pairs(sum.counts) do numbers[#numbers + 1] = number end
    table.sort(numbers)
    for _, number in ipairs(numbers) do
      below = below + sum.counts[number]
      if below >= 0.9 * sum.total then return number == 0 and 0 or math.ceil(2 ^ ((number - 0.5) / FINE)) end
    end
  end

  -- Look through the newest ledgers for what executions used, as one histogram names them.
  local function look_up(field)
    local sums = {c = {counts = {}, total = 0}, t = {counts = {}, total = 0}}
    for _, run in ipairs(redis.call('ZREVRANGE', ledgers_key(), 0, LEDGERS_LOOKED_AT - 1)) do
      local text = redis.pcall('HGET', ledger_key(run), field)
      if type(text) == 'string' then add_histogram(sums, text) end
      if math.max(sums.c.total, sums.t.total) >= ENOUGH_EXECUTIONS then break end
    end
    return {cost = ninth_tenth(sums.c), tokens = ninth_tenth(sums.t)}
  end

  local known_estimates = {}
  local function known_estimate(backend, model)
    local field = histogram_field(backend, model)
    known_estimates[field] = known_estimates[field] or look_up(field)
    return known_estimates[field]
  end

  -- Return what a task is expected to use, and for which units that is only a guess.
  local function estimate_of(run, queue, model)
    local backend, amounts, is_guess = string.match(queue, '^clinvk%.([^|]*)') or '', {}, {}
    local own, all = known_estimate(backend, model), known_estimate(backend, '')
    for _, unit in ipairs(UNITS) do
      amounts[unit] = own[unit] or all[unit]
      if not amounts[unit] then
        local configured = limits_of_day()['estimate ' .. unit]
        amounts[unit] = record_of(run)['estimate_' .. unit] or configured or GUESS[unit]
        is_guess[unit] = true
      end
    end
    return amounts, is_guess
  end

  -- What is left.

  -- Return what is left of a unit for a run through a queue, without what is reserved; what will be
  -- left if nothing of that is used; and whose budget allows no more than that.
  local function left_of(run, queue, unit)
    local left, left_at_most, whose = math.huge, math.huge, nil
    local function hold_against(limit, used, reserved, name)
      left = math.min(left, limit - used - reserved)
      if limit - used < left_at_most then left_at_most, whose = limit - used, name end
    end
    local own = record_of(run)['max_' .. unit]
    if own then
      local used = redis.call('HMGET', run_key(run), 'spent_' .. unit, 'assumed_' .. unit)
      local reserved = redis.call('HGET', reserved_key(run), unit)
      hold_against(own, (used[1] or 0) + (used[2] or 0), tonumber(reserved or 0), 'run')
    end
    for _, scope in ipairs(scopes_of(run, queue)) do
      local limit, field = day_limit(scope, unit), scope .. ' ' .. unit
      if limit then
        local used = redis.call('HGET', used_key(today()), field)
        local reserved = redis.call('HGET', all_reserved_key(), field)
        hold_against(limit, tonumber(used or 0), tonumber(reserved or 0), scope)
      end
    end
    return left, left_at_most, whose
  end

  -- Return what a start would reserve, by unit; or nil, whose budget it would go over, and whether it
  -- will also when all that runs has ended. A guess never keeps a run from starting one task.
  local function affordable(run, queue, index)
    if record_of(run).unpriced then return nil, 'unpriced', true end
    local _, model = route_of_task(run, index)
    local amounts, is_guess = estimate_of(run, queue, model or '')
    local is_first = redis.call('HLEN', in_flight_key(run)) == 0
    for _, unit in ipairs(UNITS) do
      local left, left_at_most, whose = left_of(run, queue, unit)
      if is_guess[unit] and is_first then amounts[unit] = math.min(amounts[unit], left) end
      if left <= 0 or amounts[unit] > left then
        local is_for_good = left_at_most <= 0 or (not is_guess[unit] and amounts[unit] > left_at_most)
        return nil, whose, is_for_good
      end
    end
    return amounts
  end

  -- Whether a run would rather wait for the next day than end: as for any limit, its tasks say.
  local function waits_for_tomorrow(run)
    local max_wait_ms = record_of(run).max_wait_ms
    return not max_wait_ms or ms_to_tomorrow() <= max_wait_ms
  end

  -- Return whose budget keeps a run from ever starting the task at the head of a list; nil if none does.
  local function never_affordable(run, queue, index)
    local first
    for name in string.gmatch(string.sub(queue, 8), '[^|]+') do
      local amounts, whose, is_for_good = affordable(run, 'clinvk.' .. name, index)
      if amounts or not is_for_good then return nil end
      first = first or whose
    end
    return first
  end

  -- Reserve, give back, count.

  local function add_reserved(run, queue, amounts, sign)
    for _, unit in ipairs(UNITS) do
      local amount = sign * amounts[unit]
      increment(reserved_key(run), unit, amount)
      if queue ~= '' then
        for _, scope in ipairs(scopes_of(run, queue)) do
          increment(all_reserved_key(), scope .. ' ' .. unit, amount)
        end
      end
    end
    if queue ~= '' then touch_shared(all_reserved_key()) end
  end

  -- Reserve what a task is expected to use; it is about to be dispatched through a queue.
  local function reserve(run, queue, index, amounts)
    local counted = next(limits_of_day()) and queue or ''
    local entry = table.concat({integer(amounts.cost), integer(amounts.tokens), counted}, ':')
    set_field(reserved_key(run), index, entry)
    add_reserved(run, counted, amounts, 1)
    keep(run, reserved_key(run))
    if record_of(run).waits_for_budget then
      remove_field(run_key(run), 'waits_for_budget')
      record_of(run).waits_for_budget = false
    end
  end

  -- Give back what a dispatch has reserved; returns it, nil where it has nothing.
  local function give_back(run, index)
    local key = reserved_key(run)
    local entry = redis.call('HGET', key, index)
    local cost, tokens, queue = string.match(entry or '', '^(%d+):(%d+):(.*)$')
    if not cost then return nil end
    local amounts = {cost = tonumber(cost), tokens = tonumber(tokens)}
    write({'HSET', key, index, entry}, 'HDEL', key, index)
    add_reserved(run, queue, amounts, -1)
    return amounts
  end

  local function count_used(run, queue, used)
    if not next(limits_of_day()) then return end
    local key = used_key(today())
    for _, scope in ipairs(scopes_of(run, queue)) do
      for _, unit in ipairs(UNITS) do
        if used[unit] > 0 then increment(key, scope .. ' ' .. unit, used[unit]) end
      end
    end
    redis.call('PEXPIRE', key, USED_MS)
  end

  -- An execution has ended: what it had reserved is free again, and what it used counts. What nobody
  -- knows counts as what was reserved for it, unless `is_refused`: a limit kept it from beginning.
  local function count_end(run, index, queue, model, spent, is_refused, is_ok)
    local record = record_of(run)
    local reserved = give_back(run, index)
    if spent == '' then return end
    local cost, tokens = amounts_of(spent)
    reserved = reserved or estimate_of(run, queue, model)
    if is_refused then reserved = {cost = 0, tokens = 0} end
    local used = {cost = cost or reserved.cost, tokens = tokens > 0 and tokens or reserved.tokens}
    if record.max_cost or record.max_tokens then
      increment(run_key(run), cost and 'spent_cost' or 'assumed_cost', used.cost)
      increment(run_key(run), tokens > 0 and 'spent_tokens' or 'assumed_tokens', used.tokens)
    end
    if not cost and record.max_cost and not record.allows_unknown and (is_ok or tokens > 0) then
      record.unpriced = string.match(queue, '^clinvk%.(.*)$') .. (model ~= '' and ':' .. model or '')
      set_field(run_key(run), 'unpriced', record.unpriced)
    end
    count_used(run, queue, used)
  end

  -- Let what a run has spent be what its ledger says; returns whether it was not.
  local function recount_spent(run)
    local cost, tokens = sums_of_ledger(run)
    local fields = redis.call('HMGET', run_key(run), 'spent_cost', 'spent_tokens')
    if tonumber(fields[1] or 0) == cost and tonumber(fields[2] or 0) == tokens then return false end
    set_field(run_key(run), 'spent_cost', integer(cost))
    set_field(run_key(run), 'spent_tokens', integer(tokens))
    return true
  end

  -- Return what budgets leave for a task that has reserved its part; '' without a budget in money.
  local function cost_left_for(run, queue, index)
    local entry = redis.call('HGET', reserved_key(run), index)
    local own = tonumber(string.match(entry or '', '^(%d+):') or 0)
    local left = left_of(run, queue, 'cost') + own
    return left < math.huge and integer(math.max(left, own)) or ''
  end

  -- Whether what has ended of a run has used a budget up, its own or one of the day.
  local function has_used_up(run, queue)
    for _, unit in ipairs(UNITS) do
      local _, left_at_most, whose = left_of(run, queue, unit)
      if left_at_most <= 0 then return whose end
    end
  end

  -- Return whose budget a run has come to, so that it is to end; nil where it goes on. It has once nothing
  -- of it runs any more and nothing may start; where it stops what runs, as soon as a budget is used up. A
  -- budget of the day is waited for where the tasks may wait so long, and as long as something else of the
  -- run may go on.
  local function came_to(run)
    local record, whose = record_of(run), nil
    for _, queue in ipairs(record.stops_at_budget and record.queues or {}) do
      whose = whose or has_used_up(run, queue)
    end
    if whose then return whose end
    if redis.call('HLEN', in_flight_key(run)) > 0 then return nil end
    for _, queue in ipairs(record.queues) do
      local index = redis.call('LINDEX', pending_key(run, queue), 0)
      if index then
        local keeper = never_affordable(run, queue, index)
        if not keeper then return nil end
        whose = whose or keeper
      end
    end
    local is_own = whose == 'run' or whose == 'unpriced'
    if whose and not is_own
        and (waits_for_tomorrow(run) or redis.call('EXISTS', held_key(run)) == 1) then
      return nil
    end
    return whose
  end

  made_budgets = {
    affordable = affordable,
    reserve = reserve,
    give_back = give_back,
    count_end = count_end,
    note = note,
    came_to = came_to,
    cost_left_for = cost_left_for,
    recount_spent = recount_spent,
    limits_of_day = limits_of_day,
    set_limits = set_limits,
    today = today,
    scopes_of = scopes_of,
    USED_MS = USED_MS,
  }
  return made_budgets
end

-- Give back what a dispatch has reserved, if a budget concerns its run.
local function give_back_reserved(run, index)
  if record_of(run).is_budgeted then budgets().give_back(run, index) end
end

-- An execution has ended; see count_end() above.
local function settle(run, ...)
  if record_of(run).is_budgeted then budgets().count_end(run, ...) end
end
