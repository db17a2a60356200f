-- cancel(run, reason) -> {unpublished, {index...}}
-- Cancel a run; one that is canceled or over stays as it is. See cancel() in lib/completion.lua.
local taken_back = cancel(run, reason)
touch(run)
return taken_back
