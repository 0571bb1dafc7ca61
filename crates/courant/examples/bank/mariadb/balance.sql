select cents from accounts where account = ? for update
