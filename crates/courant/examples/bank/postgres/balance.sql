select cents from accounts where account = $1 for update
