-- cancel(run, reason) -> {unpublished, {index...}}
-- See cancel() in _prelude.lua. Canceling a run that is canceled or over changes nothing.
--   ARGV  run id, reason
local taken = cancel(ARGV[1], ARGV[2])
touch(ARGV[1])
return taken
