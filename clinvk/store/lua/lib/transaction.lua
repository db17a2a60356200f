-- All or nothing. Redis keeps what a script wrote before it failed, so every write goes through
-- `write`, which notes the command that takes it back; a script that fails runs these in reverse
-- and returns its error. Reads go through redis.call as they are.

local DAY_MS = '86400000'
local SHARED_MS = '34560000000'  -- 400 days

local undo = {}       -- commands, newest last
local discarded = {}  -- keys that are removed once everything else is done
local gates = {}      -- what was read of gates, see gates.lua
local rejoin = {}     -- runs that left a fair queue: they may have to go back, see fair_queues.lua

-- Note the command that takes back what was just written.
local function note_undo(...)
  undo[#undo + 1] = {...}
end

-- Run a write. `inverse` is the command that takes it back; nil where repeating the write, or
-- having made it in vain, changes nothing.
local function write(inverse, ...)
  local answer = redis.call(...)
  if inverse then undo[#undo + 1] = inverse end
  return answer
end

-- Return a whole number as Redis takes it. Lua has a -0, which Redis before 7.2 refuses.
local function integer(value)
  local number = tonumber(value)
  if not number or number ~= math.floor(number) or number <= -2^53 or number >= 2^53 then
    error('not a whole number: ' .. tostring(value))
  end
  if number == 0 then return '0' end
  return string.format('%.0f', number)
end

-- Add to a counter in a hash; returns its new value.
local function increment(key, field, by)
  return write({'HINCRBY', key, field, integer(-by)}, 'HINCRBY', key, field, integer(by))
end

-- Set a field of a hash whose old value is not known.
local function set_field(key, field, value)
  local old = redis.call('HGET', key, field)
  write(old and {'HSET', key, field, old} or {'HDEL', key, field}, 'HSET', key, field, value)
end

local function remove_field(key, field)
  local old = redis.call('HGET', key, field)
  if old then write({'HSET', key, field, old}, 'HDEL', key, field) end
end

local function remove_member(key, member)
  local score = redis.call('ZSCORE', key, member)
  if score then write({'ZADD', key, score, member}, 'ZREM', key, member) end
end

-- Remove a key at the end of the script. Until then it is out of the way under another name, so
-- that it can be given its name back.
local function discard(key)
  if redis.call('EXISTS', key) == 0 then return end
  local name = key .. ':discarded'
  write({'RENAME', name, key}, 'RENAME', key, name)
  discarded[#discarded + 1] = name
end

-- Take back everything since a savepoint. A key that is made anew by that gets a lifetime, which
-- the next operation on its run corrects. (The broker's own lists have none: clinvk.<backend>.)
local function roll_back(savepoint)
  for i = #undo, savepoint + 1, -1 do
    redis.pcall(unpack(undo[i]))
    local key = undo[i][2]
    if string.sub(key, 1, 7) == 'clinvk:' and redis.pcall('PTTL', key) == -1 then
      redis.pcall('PEXPIRE', key, SHARED_MS)
    end
    undo[i] = nil
  end
  for name in pairs(gates) do gates[name] = nil end
end

local function message_of(failure)
  return type(failure) == 'table' and failure.err or tostring(failure)
end

-- Run a part of a script that may fail without the rest: one damaged run must not stop others.
-- Returns what went wrong, or nil.
local function attempt(part)
  local savepoint, discards = #undo, #discarded
  local is_done, failure = pcall(part)
  if is_done then return nil end
  roll_back(savepoint)
  for i = #discarded, discards + 1, -1 do discarded[i] = nil end
  return message_of(failure)
end
