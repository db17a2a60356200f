-- admit(claim_timeout_ms) -> admission
-- Dispatch what time, or an operator, has made room for. See admit() in lib/admission.lua.
--   claim_timeout_ms  how long a published task may go unclaimed
return admit(claim_timeout_ms)
