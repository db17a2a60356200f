-- reopen(queue, claim_timeout_ms) -> admission
-- Forget what was learned of the limits of a queue's provider: an operator says that it is open.
local gate = gate_of(queue, '')
if gate then count_closed(queue, gate) end
for _, field in ipairs(redis.call('HKEYS', queue_key(queue))) do
  if field == 'gate' or field == 'model_gates' or string.sub(field, 1, 5) == 'gate:' then
    remove_field(queue_key(queue), field)
  end
end
gates[queue .. ' '] = false
return admit(claim_timeout_ms)
