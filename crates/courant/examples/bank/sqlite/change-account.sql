update accounts set cents = cents + ?, movements = movements + 1 where account = ?
