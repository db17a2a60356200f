-- take_requests(submitter, count, max_bytes) -> {{operation, arguments, ticket}, ...}
-- Take what a submitter asks for out of its stream, oldest first, so that one worker does it.
--   count      how many to take at most
--   max_bytes  larger ones are dropped: whoever reads them has leases to renew
-- What is taken and not done, because its worker died, is asked for again.
local stream, taken = requests_key(submitter), {}
for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', count)) do
  write(nil, 'XDEL', stream, entry[1])
  local request, bytes = {operation = '', arguments = '', ticket = ''}, 0
  for i = 1, #entry[2], 2 do
    bytes = bytes + #entry[2][i] + #entry[2][i + 1]
    request[entry[2][i]] = entry[2][i + 1]
  end
  if bytes <= tonumber(max_bytes) then
    taken[#taken + 1] = {request.operation, request.arguments, request.ticket}
  end
end
return taken
