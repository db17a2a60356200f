-- Lifetimes. Each key has one from the moment it is written. Those of a run start anew whenever
-- something happens to it, and at the latest a hundredth of them later.

-- Start the lifetime of a key of a run that was just written.
local function keep(run, key)
  redis.call('PEXPIRE', key, record_of(run).lifetime_ms or DAY_MS)
end

-- Keys that runs share outlive their last use by longer than the record of any run may.
local function touch_shared(key)
  redis.call('PEXPIRE', key, SHARED_MS)
end

-- Let the large parts of a run's results live as long as the run, and as long again.
local function touch_blobs(run, lifetime_ms)
  local names = redis.pcall('SMEMBERS', blobs_key(run))  -- {err = ...} where somebody wrote there
  for _, name in ipairs(names) do redis.call('PEXPIRE', blob_key(run, name), 2 * lifetime_ms) end
  if #names > 0 then redis.call('PEXPIRE', blobs_key(run), 2 * lifetime_ms) end
end

-- Start the lifetime of all keys of a run anew.
local function touch(run)
  local record = record_of(run)
  if not record.lifetime_ms then return end
  local lifetime_ms = record.lifetime_ms
  record.touched_ms = now_ms()
  write(nil, 'HSET', run_key(run), 'touched_ms', integer(record.touched_ms))
  for _, key in ipairs({run_key(run), specs_key(run), results_key(run), events_key(run),
                        earlier_results_key(run),
                        in_flight_key(run), held_key(run), tries_key(run), history_key(run),
                        dispatches_key(run), worker_losses_key(run), max_attempts_key(run),
                        message_key(run), steps_key(run), step_order_key(run),
                        step_counts_key(run)}) do
    redis.call('PEXPIRE', key, lifetime_ms)
  end
  if record.is_budgeted then redis.call('PEXPIRE', reserved_key(run), lifetime_ms) end
  touch_blobs(run, lifetime_ms)
  for _, queue in ipairs(record.queues) do
    redis.call('PEXPIRE', pending_key(run, queue), lifetime_ms)
    touch_shared(queue_key(queue))
  end
end

-- The same, where it was not done just now.
local function touch_sometimes(run)
  local record = record_of(run)
  if (now_ms() - record.touched_ms) * 100 > tonumber(record.lifetime_ms or 0) then touch(run) end
end

local function touch_queue(queue)
  touch_shared(leases_key(queue))
  touch_shared(fair_queue_key(queue))
  touch_shared(queue_key(queue))
  touch_shared(queues_key())
  touch_shared(waiting_queues_key())
end
