-- What workers announced of themselves, and which of them may run a task.

local MOST_SLOTS = 100000

-- Return what a worker announced, nil where that cannot be read: others are counted all the same, where
-- one entry is damaged or forged.
local function worker_entry(text)
  local is_json, worker = pcall(cjson.decode, text or '')
  if not is_json or type(worker) ~= 'table' then return nil end
  local slots = worker.slots
  if type(slots) ~= 'number' or not (slots >= 0 and slots <= MOST_SLOTS) then return nil end
  if type(worker.queues) ~= 'table' then return nil end
  for _, queue in ipairs(worker.queues) do
    if type(queue) ~= 'string' then return nil end
  end
  return worker
end

local function worker_queue(worker)
  return 'clinvk.@' .. worker
end

-- Whether a worker takes what is put into its own queue.
local function takes_its_own(worker)
  local until_ms = redis.call('ZSCORE', workers_key(), worker)
  if not until_ms or tonumber(until_ms) <= now_ms() then return false end
  local is_json, entry = pcall(cjson.decode, redis.call('GET', worker_key(worker)) or '')
  return is_json and type(entry) == 'table' and not entry.draining
end

-- Requirements. A run may require versions of CLIs, by backend, and tags of workers. They are in its
-- record as in its file, {"claude": ">=2.1.150,<3", "tags": ["gpu"]}; what a worker has is in its entry:
-- `clis`, as each CLI names its version, and `tags`. clinvk/core/requirements.py has the same rules.
-- A task of such a run is put into the own queue of a worker that meets them, and has a free slot: who
-- takes from the backend's queue may be anyone.
--
-- All of it is made when it is first needed, as in budgets.lua.
local made_requirements
local function requirements()
  if made_requirements then return made_requirements end
  local MOST_TAGS, MOST_CHARS = 100, 200

  -- Return the numbers of the first version in a text, and whether it comes before the release of
  -- these numbers, as 0.26.0-preview.1 does.
  local function version_in(text)
    local first, last = string.find(text, '%d+%.%d+')
    if not first then return nil end
    local _, more = string.find(text, '^%.%d+', last + 1)
    while more do
      last = more
      _, more = string.find(text, '^%.%d+', last + 1)
    end
    local numbers = {}
    for number in string.gmatch(string.sub(text, first, last), '%d+') do
      numbers[#numbers + 1] = tonumber(number)
    end
    return numbers, string.sub(text, last + 1, last + 1) == '-'
  end

  -- Compare the first `count` numbers of two versions; what one does not have is 0.
  local function compare(a, b, count)
    for i = 1, count do
      local difference = (a[i] or 0) - (b[i] or 0)
      if difference ~= 0 then return difference end
    end
    return 0
  end

  -- Take a part of a range apart: operator, numbers, and whether it ends in ".*".
  local function parse_clause(clause)
    local operator, release, rest = string.match(clause, '^([<>=!~]+)(%d[%d.]*%d)(.*)$')
    if not operator then operator, release, rest = string.match(clause, '^([<>=!~]+)(%d)(.*)$') end
    if not operator or not (rest == '' or rest == '.*') then error('no range: ' .. clause) end
    local numbers = {}
    for number in string.gmatch(release, '%d+') do numbers[#numbers + 1] = tonumber(number) end
    return operator, numbers, rest ~= ''
  end

  local tests = {
    ['>='] = function(order, is_early) return order > 0 or (order == 0 and not is_early) end,
    ['<='] = function(order) return order <= 0 end,
    ['>'] = function(order) return order > 0 end,
    ['<'] = function(order) return order < 0 end,
    ['=='] = function(order, is_early) return order == 0 and not is_early end,
    ['!='] = function(order, is_early) return order ~= 0 or is_early end,
  }

  local function fits(version, is_early, clause)
    local operator, given, is_prefix = parse_clause(clause)
    if operator == '~=' then
      return tests['>='](compare(version, given, math.max(#version, #given)), is_early)
             and compare(version, given, #given - 1) == 0
    end
    if is_prefix then return tests[operator](compare(version, given, #given), false) end
    return tests[operator](compare(version, given, math.max(#version, #given)), is_early)
  end

  local function is_in(list, value)
    for _, each in ipairs(type(list) == 'table' and list or {}) do
      if each == value then return true end
    end
    return false
  end

  -- Whether a worker, by its entry, may run tasks of a queue that require this.
  local function is_met(required, queue, entry)
    for _, tag in ipairs(required.tags or {}) do
      if not is_in(entry.tags, tag) then return false end
    end
    local backend = string.sub(queue, 8)
    local range = backend ~= 'tags' and required[backend]
    if not range then return true end
    local said = type(entry.clis) == 'table' and entry.clis[backend]
    if type(said) ~= 'string' then return false end
    local version, is_early = version_in(said)
    if not version then return false end
    for clause in string.gmatch(range, '[^,]+') do
      if not fits(version, is_early, clause) then return false end
    end
    return true
  end

  -- Return the live workers that take messages of their own, with the free slots of each. One of a
  -- version that names no owner would not look at what a task requires.
  local function live_workers(admission)
    if admission.workers then return admission.workers end
    local taken = {}
    for _, queue in ipairs(redis.call('SMEMBERS', queues_key())) do
      local leases = redis.call('ZRANGEBYSCORE', leases_key(queue), '(' .. admission.now, '+inf')
      for _, lease in ipairs(leases) do
        local run, index, dispatch = parse_lease(lease)
        local current, _, _, claim = parse_entry(redis.call('HGET', in_flight_key(run), index))
        local worker = current == dispatch and string.match(claim, '^[^/]+')
        if worker then taken[worker] = (taken[worker] or 0) + 1 end
      end
    end
    admission.workers = {}
    local names = redis.call('ZRANGEBYSCORE', workers_key(), '(' .. admission.now, '+inf')
    for _, name in ipairs(names) do
      local entry = worker_entry(redis.call('GET', worker_key(name)))
      if entry and type(entry.owner) == 'string' and not entry.draining then
        admission.workers[#admission.workers + 1] = {name = name, entry = entry,
                                                     free = entry.slots - (taken[name] or 0)}
      end
    end
    return admission.workers
  end

  -- Choose a worker for a task of a run, the one with the most free slots. Returns nil where none has
  -- one, and why: 'unmet' where no live worker meets the requirements, 'occupied' where some do.
  local function choose(run, queue, admission)
    local required, best, reason = record_of(run).requires, nil, 'unmet'
    for _, worker in ipairs(live_workers(admission)) do
      if is_in(worker.entry.queues, queue) and is_met(required, queue, worker.entry) then
        reason = 'occupied'
        if worker.free > (best and best.free or 0) then best = worker end
      end
    end
    return best, not best and reason or nil
  end

  -- Whether a worker may run a task of a run. With an owner, its entry must be that process's: one that
  -- has just started may have other CLIs than the one before it.
  local function may_run(run, queue, worker, owner)
    local required = record_of(run).requires
    if not required then return true end
    local entry = worker_entry(redis.call('GET', worker_key(worker)))
    if not entry or (owner and entry.owner ~= owner) then return false end
    return is_met(required, queue, entry)
  end

  -- Return what a submitter wrote as it goes into the run's record; anybody may have written it.
  local function checked(text)
    local given, found = cjson.decode(text), {}
    if type(given) ~= 'table' then error('no requirements') end
    for name, value in pairs(given) do
      if name == 'tags' then
        if type(value) ~= 'table' or #value > MOST_TAGS then error('no list of tags') end
        local tags = {}
        for _, tag in ipairs(value) do
          if type(tag) ~= 'string' or #tag > MOST_CHARS then error('no tag') end
          tags[#tags + 1] = tag
        end
        if #tags > 0 then found.tags = tags end
      else
        if type(name) ~= 'string' or type(value) ~= 'string' or #value > MOST_CHARS
            or not string.match(name, '^[%w][%w_.-]*$') then
          error('no requirement')
        end
        for clause in string.gmatch(value, '[^,]+') do
          local operator = parse_clause(clause)
          if operator ~= '~=' and not tests[operator] then error('no range: ' .. clause) end
        end
        found[name] = value
      end
    end
    return cjson.encode(found)
  end

  made_requirements = {choose = choose, may_run = may_run, checked = checked}
  return made_requirements
end
