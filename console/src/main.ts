import { mount } from 'svelte'
import './app.css'
import App from './App.svelte'
import { server } from './lib/server.svelte'

const target = document.getElementById('app')
if (target) {
  server.start()
  mount(App, { target })
}
