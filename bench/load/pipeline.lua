-- Sends the same request N times in one write: wrk ... -s pipeline.lua URL -- N
init = function(args)
   local requests = {}
   for i = 1, tonumber(args[1]) do
      requests[i] = wrk.format()
   end
   batch = table.concat(requests)
end

request = function()
   return batch
end
