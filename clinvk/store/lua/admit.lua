-- admit(claim_timeout_ms) -> admission
-- See admit() in _prelude.lua. For when time, or an operator, has opened a queue.
return admit(ARGV[1])
