-- admit(handout_ms) -> admission
-- See admit() in _prelude.lua. For when time, or an owner, has opened a queue.
return admit(ARGV[1])
